"""From the native form to the formats that other programs read; each module owns one."""
