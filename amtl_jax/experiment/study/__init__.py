"""A study: every task in turn as the target, for all arms, budgets and seeds."""
