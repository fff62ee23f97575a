//! Stable codes of everything that Zegel refuses or reports.
