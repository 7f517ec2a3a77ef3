"""Several trainers on one dataset with the same labels, steps and seeds: does a method help on it, and how surely?"""
