"""Tests of `deploy/`: units, containers, Prometheus rules, dashboards, the Kamailio configuration."""
