"""What people read: tables, pages, pictures."""
