"""Tests of `registry_sync`, the nightly job."""
