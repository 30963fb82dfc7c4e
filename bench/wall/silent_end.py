"""Imported first by the fork server: Ctrl-C ends it while it imports, and what it forks, without a word of theirs."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back until here by who started the server
