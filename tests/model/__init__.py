"""The model checker: several processes over one real Redis, driven step by step."""
