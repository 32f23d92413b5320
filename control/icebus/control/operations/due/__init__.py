"""What is done because something fell due: ends, absences, removed users, what is kept."""
