"""From a key to the reply of its primary: used by masters and by clients that ask nodes directly."""
