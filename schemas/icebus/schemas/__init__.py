"""What crosses the bus: ids, topics, messages, errors and file formats. No I/O lives here."""
