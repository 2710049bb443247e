//! Whoever is told that a run waits for a person; sometimes nobody can be.

use std::sync::Arc;

use async_trait::async_trait;
use cofferdam::domain::{Failure, Kind};
use cofferdam::orchestrator::{Notice, Notifier};

use super::fuse::Fuse;
use super::world::World;

pub struct SimNotifier {
    pub world: Arc<World>,
    pub fuse: Arc<Fuse>,
}

#[async_trait]
impl Notifier for SimNotifier {
    async fn notify(&self, notice: &Notice) -> Result<(), Failure> {
        self.fuse.point().await;
        let is_heard = !self.world.rng.once_in(5);
        self.world.hear(notice, is_heard);
        self.fuse.point().await;
        match is_heard {
            true => Ok(()),
            false => Err(Failure::new(Kind::NetworkConnect, "tell somebody: nobody is there")),
        }
    }
}
