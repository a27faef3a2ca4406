//! trainer: the lead is writing this (worktree demo), see NOTE_FROM_LEAD.txt.
