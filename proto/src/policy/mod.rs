//! What an authenticated client may do: peers, limits, and the edge's own addresses.
