"""What every part agrees on: options, configurations, the cell file."""
