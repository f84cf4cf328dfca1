"""One file a format that GPT-2's weights come in or go out by."""
