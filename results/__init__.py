"""Everything about a number: how it is timed, what a record holds, where it is kept, what got slower."""
