//! An address that stays while what is behind it changes: a proxy, or a name
//! that leads elsewhere from one day to the next.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes connections on to wherever it leads now.
pub(crate) struct Detour {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    leads_to: String,
    open: Vec<TcpStream>,
}

impl Detour {
    /// Leads to this address, host and port, at first.
    pub(crate) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            leads_to: address.into(),
            open: Vec::new(),
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let leads_to = shared.lock().unwrap().leads_to.clone();
                let Ok(server) = TcpStream::connect(leads_to) else {
                    continue; // it hangs up
                };
                let pair = || Ok::<_, io::Error>((client.try_clone()?, server.try_clone()?));
                let (Ok(one), Ok(two), Ok(kept)) = (pair(), pair(), pair()) else {
                    continue;
                };
                shared.lock().unwrap().open.extend([kept.0, kept.1]);
                std::thread::spawn(move || copy(one.0, one.1));
                std::thread::spawn(move || copy(two.1, two.0));
            }
        });
        Detour { url, state }
    }

    /// Leads elsewhere from now on, for new connections alone: those there are
    /// stay where they led, as they do when a name changes.
    pub(crate) fn leads_to(&self, address: &str) {
        self.state.lock().unwrap().leads_to = address.into();
    }

    /// Ends all connections that there are.
    pub(crate) fn hang_up(&self) {
        for open in self.state.lock().unwrap().open.drain(..) {
            let _ = open.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
