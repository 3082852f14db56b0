"""Packages of task types as a user of Arqive would write them."""
