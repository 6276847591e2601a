complete --keep-order --exclusive --command conduit --arguments "(COMPLETE=fish conduit -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
