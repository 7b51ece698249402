//! Links between two network namespaces, with real packets.

#[cfg(test)]
mod datapaths;
#[cfg(test)]
mod disturbed;
#[cfg(test)]
mod edt;
#[cfg(test)]
mod fates;
#[cfg(test)]
mod jumbo;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod shared_cell;
#[cfg(test)]
mod tc;
#[cfg(test)]
mod testbed;
#[cfg(test)]
mod traffic;
