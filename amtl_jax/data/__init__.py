"""Where samples come from: task sources, real digits, and corruptions made on device."""
