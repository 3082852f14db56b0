"""The pure part: states, retry arithmetic, identifiers, errors, clock. No I/O and no drivers."""
