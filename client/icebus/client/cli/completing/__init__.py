"""What a shell is answered when somebody presses TAB: quick, and quiet whatever goes wrong.

Somebody waits for it at a prompt, each time anew. So nothing here loads typer or a model of what
crosses the bus: which word is completed stands in a file made of the commands, and what a broker
retains is read as the JSON that it is.
"""
