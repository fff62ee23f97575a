//! The demo's folder: a data folder, with `hospitals/` and `out/` in it.
//!
//! ```text
//! hospitals/<hospital>/sent/      what was handed over by HTTP      hospitals/<hospital>/outbox/<project>/  drop folder
//! hospitals/<hospital>/inbox/     letters it received               hospitals/<hospital>/pharmacy/ what it had stamped
//! out/recipient/<message-id>/     what recipients of projects got   out/bags/<hospital>/N.xml|.tsr
//! out/tsa/ca.pem                  out/receipts.ndjson               out/report.json
//! ```
//! Invariant I4: `hospitals/` is the only place where identifiers stand in clear.
//! Failure behaviour: a folder that holds anything else is refused; nothing is deleted without `--force`, and then only
//! in a folder that carries the mark of an earlier demo.

use crate::failed::{Failed, at};
use crate::folder::{folder_name, private_folder};
use schemas::MailboxAddress;
use std::fs;
use std::path::{Path, PathBuf};

/// The mark of a demo's folder.
const MARK: &str = ".zegel-demo";

/// A folder that is ready for a demo.
pub struct Ground(PathBuf);

impl Ground {
    /// Makes the folder ready.
    ///
    /// # Errors
    /// [`Failed::Refused`] when something else lies there, or an earlier demo and no `force`.
    pub fn prepare(root: &Path, force: bool) -> Result<Ground, Failed> {
        private_folder(root)?;
        let entries: Vec<PathBuf> = fs::read_dir(root)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(at(root))?;
        let is_demo = root.join(MARK).exists();
        if !entries.is_empty() && !is_demo {
            let text = format!("{} is not empty and not a demo's folder: say another --data", root.display());
            return Err(Failed::refused("demo-folder", text));
        }
        if is_demo && !force {
            let text =
                format!("{} holds an earlier demo: say --force to begin anew, or another --data", root.display());
            return Err(Failed::refused("demo-folder", text));
        }
        for path in entries.iter().filter(|path| !path.ends_with(MARK)) {
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.map_err(at(path))?;
        }
        fs::write(root.join(MARK), "the folder of a demo: --force may delete what is in it\n").map_err(at(root))?;
        let ground = Ground(fs::canonicalize(root).map_err(at(root))?);
        for folder in [ground.hospitals(), ground.out(), ground.0.join("projects")] {
            private_folder(&folder)?;
        }
        Ok(ground)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Where identifiers may stand in clear.
    pub fn hospitals(&self) -> PathBuf {
        self.0.join("hospitals")
    }

    /// A folder of a hospital, made when it is missing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn hospital(&self, address: &MailboxAddress, part: &str) -> Result<PathBuf, Failed> {
        let folder = self.hospitals().join(folder_name(address)).join(part);
        private_folder(&folder)?;
        Ok(folder)
    }

    /// What the demo leaves.
    pub fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    /// A folder of what the demo leaves, made when it is missing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn out_folder(&self, part: &str) -> Result<PathBuf, Failed> {
        let folder = self.out().join(part);
        private_folder(&folder)?;
        Ok(folder)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_never_touched_and_an_earlier_demo_only_with_force() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "x").unwrap();
        assert!(matches!(Ground::prepare(folder.path(), true), Err(Failed::Refused { .. })));
        assert!(folder.path().join("thesis.txt").exists());
        let demo = folder.path().join("new/demo");
        Ground::prepare(&demo, false).unwrap();
        fs::write(demo.join("zegel.db"), "x").unwrap();
        assert!(matches!(Ground::prepare(&demo, false), Err(Failed::Refused { .. })));
        assert!(demo.join("zegel.db").exists());
        Ground::prepare(&demo, true).unwrap();
        assert!(!demo.join("zegel.db").exists() && demo.join("out").is_dir());
    }
}
