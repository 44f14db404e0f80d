"""Whether ranking well means generating well: rewards by prefix, expected quality of continuations."""
