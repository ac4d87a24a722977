"""What starts, guards, resumes and shows stages. No stage imports it, and no result depends on it."""
