"""The HTML page beyond its text: what it embeds, what its policy allows, and its content in markup."""
