"""What people look at in a report: pictures, rankings that changed, heat maps."""
