"""Control: who holds which device until when, and what each device should do now.

``server`` connects ``engine`` to the bus. What is heard is remembered in ``watch``; what is to
outlive the process is in ``store``; ``decide`` has the rules, without either; ``operations`` bring
them together, each in one ``transaction``.
"""
