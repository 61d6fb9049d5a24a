"""The nightly job: takes in what an opposition registry answered and publishes it as a snapshot."""
