//! Places in the tables of one snapshot.
//!
//! Only the builder of a snapshot makes them, and they are of no use to any other snapshot.

macro_rules! index {
    ($(#[doc = $doc:literal] $name:ident;)*) => {$(
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            pub(super) fn at(position: usize) -> Self {
                Self(u32::try_from(position).unwrap_or(u32::MAX))
            }

            /// Position in the table, from 0.
            #[must_use]
            pub fn position(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

index! {
    #[doc = "A service of a snapshot."]
    ServiceIx;
    #[doc = "An endpoint of a snapshot."]
    EndpointIx;
    #[doc = "A pair of endpoints of a snapshot."]
    PairIx;
    #[doc = "An edge of a snapshot."]
    EdgeIx;
    #[doc = "A path of a snapshot."]
    PathIx;
    #[doc = "An entry of a snapshot."]
    EntryIx;
}
