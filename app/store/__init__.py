"""MongoDB, the truth. Only mongo.py names Motor."""
