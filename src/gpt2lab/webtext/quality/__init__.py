"""What is wrong with a text: named rules, and its language."""
