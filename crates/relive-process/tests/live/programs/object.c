// A shared object for the agent to open.
int relive_test_object(void) { return 1; }
