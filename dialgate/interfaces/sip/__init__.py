"""SIP: a user agent for probe calls. Time is an argument, in ms from a monotonic clock."""
