"""A farm at work whose parts die, freeze and lose each other at random: does every promise hold?"""
