"""How a client asks and is answered; stateless both ways."""
