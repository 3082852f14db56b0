"""The whole service beside what a user would write or pick instead: `make bench`."""
