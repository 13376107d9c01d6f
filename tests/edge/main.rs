//! What the A/V Edge of Lync and Skype for Business is known to do, by its rows (ED-n).

mod bandwidth;
mod roles;
