"""The images that a CSV file names."""

import csv
from pathlib import Path

from jaxcifar.data.folder_listing import SPLIT_OF, SPLITS, File, Listing, fault, normal, printable


def from_csv(path: Path) -> Listing:
    """List the images that the CSV file `path` names, in its order.

    Raises:
      UserError: it is not such a file, a line lacks a value, or names an unknown split.
      OSError: it cannot be read.
    """
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file, strict=True)
            columns = [
                name for name in ("path", "label", "split") if name in (reader.fieldnames or ())
            ]
            if columns[:2] != ["path", "label"]:
                raise fault(
                    path,
                    f"begins with the line {printable(','.join(reader.fieldnames or ()))!r}: it must name "
                    "the columns path and label, and split where splits are given, with commas between them",
                )
            for row in reader:
                if missing := [name for name in columns if not row[name]]:
                    raise fault(path, f"has no {missing[0]} in line {reader.line_num}")
                split = SPLIT_OF.get(row["split"]) if "split" in columns else ""
                if split is None:
                    raise fault(
                        path,
                        f"has the split {row['split']!r} in line {reader.line_num}: it must be one of "
                        f"{', '.join(SPLITS)}",
                    )
                rows.append((row["path"], normal(row["label"]), split))
        except (csv.Error, UnicodeError) as error:
            raise fault(path, f"is no CSV file in UTF-8 ({error})") from error
    names = sorted({label for _, label, _ in rows})
    label_of = {name: label for label, name in enumerate(names)}
    files = [File(name, label_of[label], split) for name, label, split in rows]
    return Listing(path, path.parent, tuple(names), files, ())
