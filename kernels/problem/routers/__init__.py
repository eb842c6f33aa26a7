"""One file per router, each with a class named by ``router``; its docstring's first line is what lists show."""
