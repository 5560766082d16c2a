//! What `natgw run` needs of the host before it touches anything.
