"""Tests of `dialgate.gate`, and of a whole gate under load, faults and kills."""
