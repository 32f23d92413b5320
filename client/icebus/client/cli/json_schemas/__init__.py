"""JSON Schemas that workers publish of kinds and methods: told to people, followed by words."""
