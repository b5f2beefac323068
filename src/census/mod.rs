//! Who has which certificate, and which roots are they known to trust?
