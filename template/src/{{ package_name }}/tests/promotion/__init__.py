"""Tests of promotion: gates, the lock, the journal, rollback, and attempts to get round them."""
