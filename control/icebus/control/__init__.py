"""Control: who holds which device until when, and what each device should do now."""
