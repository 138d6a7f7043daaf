"""The pages: server-rendered HTML over ``operations``, which works without JavaScript and is livelier with it."""
