"""What a program runs on: the one place that maps over devices."""
