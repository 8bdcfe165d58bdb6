"""What to tell a buyer about an order, and when."""
