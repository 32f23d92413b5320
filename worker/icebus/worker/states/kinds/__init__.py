"""The kinds of states that clients reserve devices for."""
