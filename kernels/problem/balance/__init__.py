"""Balance of routes: losses of routers and statistics of what they chose."""
