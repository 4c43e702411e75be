"""Many runs as one: which, where, in parallel, watched, and safe to repeat."""
