"""Teachers of unheard-tiny as HEAR modules: the peers, with time steps that fit the student's patches of 160 ms."""
